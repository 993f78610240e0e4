"""Redis, Valkey and their kin, spoken to from Trio: links of our own on redis-py's public parts."""
