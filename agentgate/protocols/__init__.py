"""The protocols of agents: what a request in one of them asks for, and how a refusal is said in it."""
