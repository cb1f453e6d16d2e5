"""Watch a training process from the inside: `tunematrix watch`, and `tunematrix.watch()`.

What the probe writes down is judged here by the checks of the group `watch`. Nothing is imported by
this file, since `import tunematrix` leads to it.
"""
