"""What `import espnet_dq` offers, and what the commands call."""
