"""The paper's section 3.1 as pure functions and modules on tensors: no files, no devices, no videos."""
