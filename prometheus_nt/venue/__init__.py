"""The simulated exchange: when it quotes, at what price, at what cost."""
