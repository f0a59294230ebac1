"""What exchanges ask of an ad: its format, size, domains and categories; entry: table.Creatives."""
