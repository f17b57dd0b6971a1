"""Who is asking: authenticators, and where their keys come from."""
