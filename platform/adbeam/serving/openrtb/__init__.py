"""What exchanges demand and want to know: currencies, seats, deals, formats, ids; entry: places.place_of."""
