"""One part of each kind that adbeam takes from other packages."""
