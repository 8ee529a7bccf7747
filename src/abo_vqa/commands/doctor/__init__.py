"""`abo-vqa doctor`: the machine, the files, the services and the models, looked at one by one.

A check is a function that yields findings; `command` lists them by groups. What a check raises is
itself a finding, so that a broken checkout is described to its end.
"""
