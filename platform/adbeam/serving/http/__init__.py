"""The HTTP border: routes, checks, schemas, OpenRTB, problems, the console."""
