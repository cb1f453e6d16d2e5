"""What computes: one room per backend, none of which knows another."""
