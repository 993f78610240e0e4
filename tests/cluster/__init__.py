"""Real nodes in processes of their own, a real Redis, and what can happen to them."""
