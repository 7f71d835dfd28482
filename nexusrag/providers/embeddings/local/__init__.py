"""all-MiniLM-L6-v2 on onnxruntime, in one process per home that the API and all workers share over a Unix socket."""
