"""What this machine can do, and why not: environments, backends and quantizers → findings.

`examine` leads through the house, `hosts` looks at environments, `trials` runs what is tried in
processes of its own, `verdicts` holds what they left behind against what is declared, `findings`
is what comes out. Nothing here imports an ML library.
"""
