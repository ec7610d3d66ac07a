"""The gateway simulator: speaks the broker's wire protocol on loopback and replays history."""
