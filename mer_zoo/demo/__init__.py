"""A page in the browser on which the networks can be tried; ``mer-zoo demo`` opens it, and the extra ``demo`` has it.

``looking`` computes, ``showing`` makes pictures and words of it, ``app`` is the page. Only ``app`` knows Gradio.
"""
