"""What a slot and a day brought, read from the lake and written as Markdown."""
