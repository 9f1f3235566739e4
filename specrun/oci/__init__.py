"""Values of the OCI image specification: references, digests, descriptors."""
