"""The LanceDB index of memories: lexical and dense retrieval, fusion, indexing."""
