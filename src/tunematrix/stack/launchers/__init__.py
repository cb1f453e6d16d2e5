"""How a cell is spread over several processes: what starts them, and what joins their work."""
