"""The connected Ray cluster: resources, nodes, heartbeat, authentication, clean-up."""
