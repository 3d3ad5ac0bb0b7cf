"""How each family of providers is spoken to, and the one HTTP call of a job.

``families`` says how a body becomes a request and an answer a ``chat.completion``; ``call`` makes
the call within its clocks; ``transport`` carries it and tells what may have been executed.
"""
