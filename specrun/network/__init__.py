"""Networks of containers: links, addresses, published ports and names."""
