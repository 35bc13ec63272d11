"""What a hospital and the hub must agree on: files, words, arrays, and the form in which they cross."""
