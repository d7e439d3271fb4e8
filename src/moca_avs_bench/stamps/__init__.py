"""The offline benchmark "stamps": composites of real cut-outs on real photos with real audio."""
