"""Forwarding: which traffic goes where, and how it gets there and back."""
