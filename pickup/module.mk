pickup_MAIN := pickup/pickup.c
pickup_SRC  := pickup/pickup.c
pickup_USES := pickup lib
pickup_LIBS :=  $(LIB_LIBS)
PROGRAMS += libexec/postern/pickup
