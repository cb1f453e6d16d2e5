"""What people see: records in, rows (pure), then a terminal table."""
