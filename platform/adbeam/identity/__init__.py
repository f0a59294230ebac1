"""What makes two ids the same: one rule for logs, catalogues, stores and the endpoint.

Text is itself, byte for byte: `007` is not `7`, and case and blanks count. A number is its shortest exact text: 17,
17.0 and 1.7e1 are `17`. A float too large to tell neighbours apart, a fraction, a boolean, a list or an object is no
id. A user id that means nobody is nobody, and a long one is its digest. docs/ids.md has the table.
"""
