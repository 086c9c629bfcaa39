"""What is read, one technique a file: blocks of a prompt in prefill, pages in decode, and which heads need them."""
