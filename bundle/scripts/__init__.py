"""Code of the DSNet bundle, one folder per stage, in the order that the data takes.

``common`` → ``slides`` → ``tissue`` → ``patches`` → ``scae`` → ``encoding`` → ``dsnet`` → ``evaluation`` → ``training``
→ ``inference`` → ``localisation``. A stage imports from those before it, never from those after it.
"""
