"""What a person does on the page.

This is a package, so that its server and browser end with its last test: elsewhere they live until all tests end.
"""
