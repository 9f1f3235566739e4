"""Claims about containers, images, files, ports and pages, looked at from outside.

Nothing is needed in an image: files are read through `/proc/<pid>/root` of a running container, or through a mount of
the image's layers that is attached nowhere.
"""
