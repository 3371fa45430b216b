"""Self-Contrastive learning: the method, without a cluster. Importing it imports nothing else."""
