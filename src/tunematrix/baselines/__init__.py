"""What honest runs are known to give: bands of cells' figures, and tolerances of relations."""
