"""What a run does, from a composed configuration to evidence."""
