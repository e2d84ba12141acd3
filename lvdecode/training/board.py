"""TensorBoard's event files, by tensorboardX without PyTorch."""

import sys

# tensorboardX imports PyTorch where there is one, for tensors that nobody gives
# it here: seconds of every start, and another CUDA beside JAX's.
_torch = sys.modules.get('torch')
sys.modules['torch'] = None  # type: ignore[assignment]  # importing it fails
try:
  from tensorboardX import event_file_writer
  from tensorboardX.proto import event_pb2
  from tensorboardX.proto import summary_pb2
finally:
  del sys.modules['torch']
  if _torch is not None:
    sys.modules['torch'] = _torch

Event = event_pb2.Event
EventsWriter = event_file_writer.EventsWriter
SessionLog = event_pb2.SessionLog
Summary = summary_pb2.Summary
