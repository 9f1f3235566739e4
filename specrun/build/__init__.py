"""Images from Dockerfiles: a front end that reads them, and an executor that makes layers of them."""
