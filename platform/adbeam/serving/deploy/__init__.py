"""Starting and configuring an application: local Serve, its YAML, environment, policies, roll-out."""
