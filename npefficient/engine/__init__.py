"""What people run: weights are folded and packed, a plan is made per input size, and compiled threads walk it."""
