"""Group pictures: profiles of several people, their assignment to faces, and painting face after face."""
