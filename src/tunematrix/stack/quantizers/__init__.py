"""How base weights are stored: one small module per library, none of which knows another."""
