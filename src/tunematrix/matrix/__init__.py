"""Where it must hold: specs and axes → cells and exclusions, and the plan that they make.

Import from the modules: `groups` reads the configs, `cells` expands a spec, `select` narrows,
`plan` puts all that together, `compose` makes a cell's configuration.
"""
