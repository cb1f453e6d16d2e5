"""The way through the house: a cell or a relation of the plan goes in, its record comes out."""
