"""Whether a person's signals let their data be used: TCF, GPP, US privacy and flags; entry: `signals.forbidden_by`."""
