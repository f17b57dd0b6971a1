"""Rate limits: how much of a budget is left, whose it is, and where that is counted."""
