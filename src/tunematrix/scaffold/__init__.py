"""What a project needs to be tested with tunematrix: files written once, never over others.

`changes` holds what is done to one file, `project` what a project gets, `workflow` the file for
GitHub's machines. Nothing is written before all of it has been worked out.
"""
