"""Proofs about time: that nothing reads the future, and how much of the past it needs."""
