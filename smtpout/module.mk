smtpout_MAIN := smtpout/smtpout.c
smtpout_SRC  := smtpout/smtpout.c
smtpout_USES := smtpout lib
smtpout_LIBS := -lssl -lcrypto -lgsasl $(LIB_LIBS)
PROGRAMS += libexec/postern/smtpout
