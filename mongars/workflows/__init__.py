"""The use cases, one module each: `cli`, `jobs` and `demo` call these and nothing below."""
