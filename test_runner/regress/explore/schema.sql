create table t (n int);
create table progress (loaded int);
