"""Images on plain files: an OCI image layout, unpacked layers, and the images assembled from packages."""
