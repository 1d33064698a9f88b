smtpout_MAIN := smtpout/smtpout.c
smtpout_SRC  := smtpout/smtpout.c
smtpout_USES := smtpout lib
smtpout_LIBS := -lssl -lcrypto $(LIB_LIBS)
PROGRAMS += libexec/postern/smtpout
