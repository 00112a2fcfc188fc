//! How far a silent connection is trusted. A load balancer, a proxy, the server's own `timeout` or
//! a freeze of the process may have ended it meanwhile, and the first write after that would still
//! succeed.

use std::time::Duration;

/// After this long, the socket is looked at before use.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(5);

/// After this long, a first attempt is cut short, and what may not be repeated is sent only after
/// the server has answered something else.
pub(super) const DOUBT_AFTER: Duration = Duration::from_secs(30);

/// After this long, the connection is replaced.
pub(super) const DIAL_AFTER: Duration = Duration::from_secs(300);

/// How long a first attempt on a doubtful connection may take.
pub(super) const DOUBTFUL_PATIENCE: Duration = Duration::from_millis(50);
